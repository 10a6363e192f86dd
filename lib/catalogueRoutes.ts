import type { Catalogue } from './catalogue.ts'
import type { Answer, Routes } from './health.ts'

const DEFAULT_PAGE = 100
const LARGEST_PAGE = 1_000

/**
 * What an instance can be asked about the catalogue that it keeps:
 *
 *   /products?after=SKU&limit=N   how many there are, and a page of them in the order of their skus
 *   /products/SKU                 one of them
 */
export function catalogueRoutes(catalogue: Catalogue): Routes {
  return {
    '/products': (query) => answerPage(catalogue, query),
    '/products/': (_query, sku) => {
      const product = catalogue.find(sku)
      if (product) return { body: product }
      return { status: 404, body: { error: `this product is ${catalogue.statusOf(sku)}` } }
    },
  }
}

function answerPage(catalogue: Catalogue, query: URLSearchParams): Answer {
  const limit = Number(query.get('limit') ?? DEFAULT_PAGE)
  if (!Number.isInteger(limit) || limit < 1 || limit > LARGEST_PAGE) {
    return { status: 400, body: { error: `limit must be a whole number from 1 to ${LARGEST_PAGE}` } }
  }
  // One more than asked for, to see whether there is one.
  const found = catalogue.list(query.get('after') ?? undefined, limit + 1)
  const products = found.slice(0, limit)
  const last = products.at(-1)
  const next =
    found.length > limit && last && `/products?limit=${limit}&after=${encodeURIComponent(last.sku)}`
  return { body: { count: catalogue.count, products, ...(next && { next }) } }
}
