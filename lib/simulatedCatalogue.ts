import { Faker } from '@faker-js/faker'
// One locale: the whole package takes half a second to load.
import { base, en } from '@faker-js/faker/locale/en'
