// Runs the public suite http-cache-tests through an edge and prints each test's outcome as a line of JSON.
// Called by run.py, with the suite's folder, the address and port of the origin, and the edge's URL. The suite's own
// server, driven in this process, is the origin: it listens on that address only, and answers the edge's probe.

import { existsSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, host, port, edge, readyPath, ...only] = process.argv.slice(2)
const load = path => import(pathToFileURL(join(suite, path)).href)
const isRelease = !existsSync(join(suite, 'test-engine')) // that of 2021, with another interface
const engine = isRelease ? '.' : 'test-engine'
const print = console.log
console.log = () => {} // the suite's server talks of each test

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (wanted, ...rest) { return listen.call(this, wanted, host, ...rest) }
const emit = http.Server.prototype.emit
http.Server.prototype.emit = function (event, request, response, ...rest) {
  if (event === 'request' && request.url === readyPath) return response.end('ready')
  return emit.call(this, event, request, response, ...rest)
}
Object.assign(process.env, { npm_config_protocol: 'http', npm_config_port: port, npm_config_pidfile: '/dev/null' })
await load(join(engine, 'server/server.mjs'))

const { default: found } = await load('tests/index.mjs')
const { runTests, getResults } = await load(join(engine, 'client/runner.mjs'))
const isWanted = test => only.length === 0 || only.includes(test.id)
const sets = found.map(set => ({ ...set, tests: set.tests.filter(isWanted) }))
if (only.length === 1) { // with every request and answer
  sets.forEach(set => set.tests.forEach(test => { test.dump = true }))
  console.log = print
}
await until(async () => (await fetch(edge + '/test/none')).status !== 503)
await (isRelease
  ? runTests(sets, createRequire(join(suite, 'index.js'))('node-fetch'), false, edge, 25)
  : runTests(sets, false, edge))

const results = getResults()
const lines = sets.flatMap(set => set.tests).map(test => JSON.stringify({
  id: test.id,
  kind: test.kind || 'required',
  browserOnly: Boolean(test.browser_only),
  passed: results[test.id] === true,
  why: Array.isArray(results[test.id]) ? results[test.id].join(': ') : 'not run'
}))
process.stdout.write(lines.join('\n') + '\n', () => process.exit(0)) // not before all of it is written

async function until (isSo) {
  const deadline = Date.now() + 10000
  while (!await isSo()) {
    if (Date.now() > deadline) throw new Error('the edge does not find its origin')
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
