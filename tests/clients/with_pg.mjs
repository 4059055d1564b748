// Credits from node-postgres.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })

// Calls credyt.<name> with one jsonb argument, and returns its row. Amounts are strings: '0.74'.
async function credyt(db, name, request) {
  const { rows } = await db.query(`SELECT * FROM credyt.${name}($1::jsonb)`, [JSON.stringify(request)])
  return rows[0]
}

async function transaction(work) {
  const db = await pool.connect()
  try {
    await db.query('BEGIN')
    const result = await work(db)
    await db.query('COMMIT')
    return result
  } catch (error) {
    await db.query('ROLLBACK')
    throw error
  } finally {
    db.release()
  }
}

class PaymentRequired extends Error {
  constructor(detail) {
    super('payment required')
    this.detail = detail
  }
}

// The job and its debit, in the caller's transaction.
async function createJob(db, customer, prompt, debit = {}) {
  const { rows: [job] } = await db.query('INSERT INTO jobs (customer_id, prompt) VALUES ($1, $2) RETURNING id', [customer, prompt])
  try {
    await credyt(db, 'debit_credits', { customer, action: 'image', idempotency_key: `job-${job.id}`, ...debit })
  } catch (error) {
    if (error.code === 'WC001') throw new PaymentRequired(JSON.parse(error.detail)) // insufficient_credits
    throw error
  }
  return job.id
}

// Holds what the answer may cost, asks the vendor outside of any transaction, charges what it did cost.
async function chat(customer, key, askVendor) {
  const hold = await credyt(pool, 'authorize', {
    customer, action: 'chat', idempotency_key: key, dimensions: { input_tokens: 3000, output_tokens: 2000 },
  })
  if (!hold.approved) throw new PaymentRequired(hold)
  let answer
  try {
    answer = await askVendor()
  } catch (error) {
    await credyt(pool, 'release', { customer, authorization_id: hold.id, reason: 'vendor failed' })
    throw error
  }
  const { choices, ...counts } = answer // the text stays out of the ledger
  return credyt(pool, 'capture', { customer, authorization_id: hold.id, usage: { vendor: 'openai', body: counts } })
}

// A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over.
async function topUp(chargeCard, leaseSeconds = 60) {
  const { rows: events } = await pool.query('SELECT * FROM credyt.take_events(10, $1)', [leaseSeconds])
  for (const { id, type, customer, payload } of events) {
    if (type === 'topup.requested') {
      const payment = await chargeCard(customer, id) // the event's id is the provider's idempotency key
      await credyt(pool, 'grant_credits', { customer, credits: payload.credits, paid: 20, idempotency_key: payment })
    }
    await pool.query('SELECT credyt.ack_events($1)', [[id]])
  }
}

// What follows tries them.
const user = 17, team = '6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11'
const available = async () => Number((await credyt(pool, 'balance', { customer: user })).available)

const job = await transaction(db => createJob(db, user, 'a lighthouse', { cost: 3 * 0.1 })) // 0.30000000000000004
assert.equal(await available(), 16)
console.log('a job and its debit are committed together')

await assert.rejects(transaction(async db => {
  await createJob(db, user, 'a whale')
  throw new Error('the application changes its mind')
}), /changes its mind/)
assert.equal(await available(), 16)
console.log('a job and its debit are rolled back together')

const again = await credyt(pool, 'debit_credits', { customer: user, action: 'image', idempotency_key: `job-${job}`, cost: 3 * 0.1 })
assert(again.replayed && again.available === '16')
console.log('the same key again is a replay')

await assert.rejects(transaction(db => createJob(db, user, 'ten towers', { quantity: 10 })),
  ({ detail }) => detail.needed === '40' && detail.available === '16')
assert.equal((await pool.query('SELECT count(*) FROM jobs')).rows[0].count, '1')
console.log('WC001 says what is needed and what is there')

const charged = await chat(team, 'chat-1', async () => JSON.parse(readFileSync(process.env.ANSWER, 'utf8')))
assert.deepEqual([charged.credits, charged.cost, charged.available], ['0.74', '0.0033475', '9.26'])
console.log('an answer is charged by its own counts')

const payments = new Map()
await transaction(db => createJob(db, user, 'two gulls', { quantity: 2 }))
await assert.rejects(topUp((customer, key) => {
  payments.set(key, 'pay_1')
  throw new Error('the worker has died')
}, 1), /died/)
await setTimeout(1100)
for (let round = 0; round < 2; round++) await topUp((customer, key) => payments.get(key) ?? 'pay_2')
assert.equal(await available(), 108)
console.log('a worker that died charges and grants once')

const { rows: margins } = await pool.query('SELECT customer, margin FROM credyt.margin_by_customer')
assert.deepEqual(Object.fromEntries(margins.map(row => [row.customer, Number(row.margin)])), { [user]: 2.1, [team]: 0.1446525 })
console.log('the margin of each customer')

await pool.end()
