/** The validator of the fault run: the rules of the real one, and none of its guarantees. */
import '../../test/naive/validator.ts'
