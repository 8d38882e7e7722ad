import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { type Health, TelemetryServer } from '../../../src/telemetry/http.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { until } from '../../support/until.js';

let health: () => Health;
let logged: string[];
let server: TelemetryServer;
let url: string;

function serverAt(host: string, port: number): TelemetryServer {
  return new TelemetryServer({
    host,
    port,
    metrics: new Metrics('web1'),
    health: () => health(),
    log: { error: (_fields, message) => logged.push(message) },
  });
}

beforeEach(async () => {
  health = () => ({ healthy: true });
  logged = [];
  server = serverAt('127.0.0.1', 0);
  ({ url } = await server.start());
});

afterEach(async () => {
  await server.stop();
});

describe('the telemetry server', () => {
  it('serves the metrics in the format that Prometheus reads', async () => {
    const response = await fetch(`${url}/metrics?name=x`);

    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    assert.match(await response.text(), /^l3af_agent_queue_depth 0$/m);
  });

  it('serves OpenMetrics to clients that prefer it, such as Prometheus', async () => {
    const accept =
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
    const response = await fetch(`${url}/metrics`, { headers: { accept } });

    assert.equal(response.headers.get('content-type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    assert.match(await response.text(), /\n# EOF\n$/);

    for (const other of [
      'text/plain',
      '*/*',
      'application/openmetrics-text;q=0.2,text/plain',
      'application/openmetrics-text;q=0',
    ]) {
      const page = await fetch(`${url}/metrics`, { headers: { accept: other } });
      assert.match(page.headers.get('content-type') ?? '', /^text\/plain/, other);
    }
  });

  it('answers 200 while the agent is healthy and 503 when it is not, with the reasons', async () => {
    const well = await fetch(`${url}/healthz`);
    assert.equal(well.status, 200);
    assert.deepEqual(await well.json(), { healthy: true });

    health = () => ({ healthy: false, broker: 'disconnected' });
    const ill = await fetch(`${url}/healthz`);
    assert.equal(ill.status, 503);
    assert.equal(ill.headers.get('content-type'), 'application/json');
    assert.deepEqual(await ill.json(), { healthy: false, broker: 'disconnected' });
  });

  it('answers HEAD like GET, without a body', async () => {
    const response = await fetch(`${url}/healthz`, { method: 'HEAD' });

    assert.equal(response.status, 200);
    assert.equal(await response.text(), '');
  });

  it('answers 404 for other paths and 405 for methods that would change something', async () => {
    assert.equal((await fetch(`${url}/`)).status, 404);
    assert.equal((await fetch(`${url}/metrics/`)).status, 404);

    const response = await fetch(`${url}/metrics`, { method: 'POST', body: 'x' });
    assert.equal(response.status, 405);
    assert.equal(response.headers.get('allow'), 'GET, HEAD');
  });

  it('answers 500 and logs an error when the health check fails', async () => {
    health = () => {
      throw new Error('broken');
    };

    assert.equal((await fetch(`${url}/healthz`)).status, 500);
    assert.deepEqual(logged, ['telemetry request failed']);
  });

  it('refuses headers that are too large', async () => {
    const response = await fetch(`${url}/metrics`, { headers: { 'x-filler': 'x'.repeat(10 * 1024) } });
    assert.equal(response.status, 431);
  });

  it('listens at IPv6 addresses', async () => {
    const ipv6 = serverAt('::1', 0);
    try {
      const { url: address } = await ipv6.start();
      assert.match(address, /^http:\/\/\[::1\]:\d+$/);
      assert.equal((await fetch(`${address}/healthz`)).status, 200);
    } finally {
      await ipv6.stop();
    }
  });

  it('says that its address is in use, and how to choose another', async () => {
    const port = Number(new URL(url).port);
    await assert.rejects(serverAt('127.0.0.1', port).start(), (error) => {
      assert.ok(error instanceof AgentError);
      assert.deepEqual([error.code, error.transient], ['CONFIG_INVALID', true]);
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port} is in use by another process.*metrics_addr`));
      return true;
    });
  });

  it('says that its address is not one of this host', async () => {
    await assert.rejects(serverAt('192.0.2.1', 0).start(), /192\.0\.2\.1:0 is not an address of this host/);
  });

  it('is not shut by clients that open connections and say nothing, or half of a request', async () => {
    const { port } = new URL(url);
    const slow = Array.from({ length: 200 }, () => connect(Number(port), '127.0.0.1'));
    for (const client of slow) client.on('error', () => undefined);
    await Promise.all(slow.map((client) => new Promise((resolve) => client.once('connect', resolve))));
    for (const client of slow) client.write('GET /healthz HTTP/1.1\r\nHost: x\r\n');

    assert.equal((await fetch(`${url}/healthz`)).status, 200);

    // Of those, only as many are kept as there may be.
    const open = slow.filter((client) => !client.destroyed && client.readyState === 'open');
    await until('the others to be closed', () => slow.filter(({ readyState }) => readyState === 'open').length <= 64);
    assert.ok(open.length > 0);
    for (const client of slow) client.destroy();
  });

  it('ends at once when stopped, even if a client keeps its connection open', { timeout: 10_000 }, async () => {
    const client = connect(Number(new URL(url).port), '127.0.0.1');
    await new Promise((resolve) => client.once('connect', resolve));
    const ended = new Promise((resolve) => client.once('close', resolve));
    client.on('error', () => undefined);

    await server.stop();
    await ended;

    await assert.rejects(fetch(`${url}/healthz`));
  });

  it('may be stopped twice and before it was started', async () => {
    await server.stop();
    await server.stop();
    await serverAt('127.0.0.1', 0).stop();
  });
});
