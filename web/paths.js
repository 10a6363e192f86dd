/** The lines of the picture, as SVG path data between boxes. */

/** @typedef {{ x: number, y: number, width: number, height: number }} Box */
/** @typedef {{ line: string, arrow: string }} Way its line, and the head of the arrow at its end */

/** Two ways between the same cards stand so far apart. */
const APART = 9
const ARROW_LENGTH = 8
const ARROW_WIDTH = 4

/** @param {Box} from @param {Box} to @param {'topic' | 'settle' | 'http'} kind @returns {Way} */
export function wayBetween(from, to, kind) {
  if (Math.abs(from.x - to.x) < from.width / 2) return downwards(from, to)
  return kind === 'settle' ? leftwards(from, to) : rightwards(from, to)
}

/** @param {Box} from @param {Box} to @returns {Way} */
function rightwards(from, to) {
  const [x1, y1] = [from.x + from.width, from.y + from.height / 2]
  const [x2, y2] = [to.x, to.y + to.height / 2]
  return curve(x1, y1, x2, y2, 1)
}

/** The way back, some way beneath the way there. @param {Box} from @param {Box} to @returns {Way} */
function leftwards(from, to) {
  const [x1, y1] = [from.x, from.y + from.height / 2 + APART]
  const [x2, y2] = [to.x + to.width, to.y + to.height / 2 + APART]
  return curve(x1, y1, x2, y2, -1)
}

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 @param {1 | -1} ahead @returns {Way} */
function curve(x1, y1, x2, y2, ahead) {
  const neck = x2 - ahead * ARROW_LENGTH
  const bend = (neck - x1) * 0.55
  return {
    line: `M${x1} ${y1}C${x1 + bend} ${y1} ${neck - bend} ${y2} ${neck} ${y2}`,
    arrow: `M${neck} ${y2 - ARROW_WIDTH}L${x2} ${y2}L${neck} ${y2 + ARROW_WIDTH}Z`,
  }
}

/** To the box beneath. @param {Box} from @param {Box} to @returns {Way} */
export function downwards(from, to) {
  const x = from.x + Math.min(from.width, to.width) / 2
  const neck = to.y - ARROW_LENGTH
  return {
    line: `M${x} ${from.y + from.height}V${neck}`,
    arrow: `M${x - ARROW_WIDTH} ${neck}L${x} ${to.y}L${x + ARROW_WIDTH} ${neck}Z`,
  }
}
