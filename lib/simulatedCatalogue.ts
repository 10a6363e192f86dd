import { base, en, Faker } from '@faker-js/faker'
import type { Catalogue, CatalogueCustomer, CatalogueProduct } from './registration.ts'

/** Every producer draws from the same catalogue, whatever its seed: several can run side by side. */
const CATALOGUE_SEED = 20_260_401
const PRODUCTS = 200
const CUSTOMERS = 1_000

const DEAREST_MINOR = 24_999
const CHEAPEST_MINOR = 199

/**
 * At 1,000 orders/s the most popular product sells about 500 pieces a second and is restocked every 20 s, all of them
 * together once in two seconds. No order takes as many as are left then, so none of them is ever sold out.
 */
const PLENTY = { quantity: 10_000, lowLevel: 1_000, restockQuantity: 10_000 }
/**
 * A few products are scarce, so that a demo of some thousand orders shows 'limited' and 'unavailable'. By rank of
 * popularity: together they are in about one order of forty, which is as far as the share of 'unavailable' goes. They are
 * not restocked.
 */
const SCARCE_RANKS: ReadonlySet<number> = new Set([39, 44, 49])
const SCARCE = { quantity: 50, lowLevel: 20 }

interface Country {
  name: string
  currency: 'EUR' | 'GBP' | 'USD'
}

/** As often as they stand here. */
const COUNTRIES: readonly Country[] = [
  { name: 'United Kingdom', currency: 'GBP' },
  { name: 'United Kingdom', currency: 'GBP' },
  { name: 'United Kingdom', currency: 'GBP' },
  { name: 'United States', currency: 'USD' },
  { name: 'United States', currency: 'USD' },
  { name: 'Germany', currency: 'EUR' },
  { name: 'Germany', currency: 'EUR' },
  { name: 'France', currency: 'EUR' },
  { name: 'Netherlands', currency: 'EUR' },
  { name: 'Spain', currency: 'EUR' },
]

export interface SimulatedAddress {
  name: string
  street: string
  city: string
  postcode: string
  country: string
}

/** A customer with what the simulator needs to place orders for it. */
export interface SimulatedCustomer extends CatalogueCustomer {
  currency: string
  address: SimulatedAddress
}

export interface SimulatedCatalogue extends Catalogue {
  /** The most popular first. */
  products: CatalogueProduct[]
  /** The keenest first. */
  customers: SimulatedCustomer[]
}

/** The products and customers of the simulator: the same at every call. */
export function createSimulatedCatalogue(): SimulatedCatalogue {
  const faker = new Faker({ locale: [en, base], seed: CATALOGUE_SEED })
  return {
    products: Array.from({ length: PRODUCTS }, (_, rank) => makeProduct(faker, rank)),
    customers: Array.from({ length: CUSTOMERS }, (_, rank) => makeCustomer(faker, rank)),
  }
}

function makeProduct(faker: Faker, rank: number): CatalogueProduct {
  // Cubed: many cheap products, few dear ones.
  const share = faker.number.float({ min: 0, max: 1 }) ** 3
  const scarce = SCARCE_RANKS.has(rank)
  return {
    sku: `SKU-${String(rank + 1).padStart(4, '0')}`,
    name: faker.commerce.productName(),
    unitPriceMinor: Math.round(CHEAPEST_MINOR + share * (DEAREST_MINOR - CHEAPEST_MINOR)),
    currency: 'EUR',
    stock: scarce ? SCARCE : PLENTY,
  }
}

function makeCustomer(faker: Faker, rank: number): SimulatedCustomer {
  const firstName = faker.person.firstName()
  const lastName = faker.person.lastName()
  const name = `${firstName} ${lastName}`
  const country = faker.helpers.arrayElement(COUNTRIES)
  return {
    id: `cust-${String(rank + 1).padStart(4, '0')}`,
    name,
    email: faker.internet.exampleEmail({ firstName, lastName }).toLowerCase(),
    tier: faker.helpers.weightedArrayElement([
      { value: 'standard' as const, weight: 80 },
      { value: 'silver' as const, weight: 15 },
      { value: 'gold' as const, weight: 5 },
    ]),
    country: country.name,
    // Ten of a thousand.
    blocked: rank % 100 === 99,
    currency: country.currency,
    address: {
      name,
      street: faker.location.streetAddress(),
      city: faker.location.city(),
      postcode: faker.location.zipCode(),
      country: country.name,
    },
  }
}
