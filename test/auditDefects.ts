/** Defects to be planted in a history of the model, each with the checks that must find it. */
import { DECISION_DEFECTS } from './auditDecisionDefects.ts'
import type { Plant } from './auditDefectTools.ts'
import { MONEY_DEFECTS } from './auditMoneyDefects.ts'
import { RECORD_DEFECTS } from './auditRecordDefects.ts'

export const DEFECTS: Record<string, Plant> = { ...RECORD_DEFECTS, ...DECISION_DEFECTS, ...MONEY_DEFECTS }
