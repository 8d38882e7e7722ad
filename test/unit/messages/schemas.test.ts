import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Acknowledgement, parseAcknowledgement } from '../../../src/messages/ack.js';
import { generateSchemas, projectRoot } from '../../../src/messages/generate.js';
import { bytes } from './payloads.js';

const FOLDER = join(projectRoot(), 'schemas');

describe('schemas/', () => {
  const generated = generateSchemas();

  for (const [name, text] of generated) {
    it(`contains ${name} as the code defines it (if not, run: node dist/src/messages/generate.js)`, () => {
      assert.equal(readFileSync(join(FOLDER, name), 'utf8'), text);
    });
  }

  it('contains nothing else', () => {
    assert.deepEqual(readdirSync(FOLDER).toSorted(), [...generated.keys()].toSorted());
  });

  it('refuses unknown fields in commands and lets readers of answers ignore them', () => {
    const closed = (name: string) => generated.get(name)!.includes('"additionalProperties": false');

    assert.deepEqual(['deploy.json', 'add.json', 'delete.json'].map(closed), [true, true, true]);
    assert.deepEqual(['acknowledgement.json', 'event.json', 'host.json'].map(closed), [false, false, false]);
  });

  it('resolves every reference of the AsyncAPI document', () => {
    const document: unknown = JSON.parse(generated.get('asyncapi.json')!);
    const references = [...generated.get('asyncapi.json')!.matchAll(/"\$ref": "([^"]+)"/g)].map(
      ([, target]) => target!,
    );

    assert.ok(references.length > 20);
    for (const reference of references) {
      if (reference.startsWith('#/')) {
        const found = reference
          .slice(2)
          .split('/')
          .reduce<unknown>((node, key) => Reflect.get(node as object, key), document);
        assert.notEqual(found, undefined, reference);
      } else {
        assert.ok(generated.has(reference.replace('./', '')), reference);
      }
    }
  });
});

describe('an acknowledgement', () => {
  const acknowledgement: Acknowledgement = {
    id: 'cmd-1',
    host: 'web1',
    verb: 'deploy',
    gen: 7,
    seq: 1234,
    status: 'failed',
    code: 'VERIFIER_REJECTED',
    message: 'The verifier rejected ratelimiting',
    errors: [{ path: '0.bpf_programs.xdp_ingress.0', code: 'VERIFIER_REJECTED', message: 'm', detail: 'R1 invalid' }],
    programs: [{ iface: 'eth1', direction: 'xdpingress', name: 'ratelimiting', version: '1.0', result: 'failed' }],
    undone: true,
    received_at: '2026-01-31T12:00:00.000Z',
    finished_at: '2026-01-31T12:00:00.012Z',
    duration_ms: 12.3,
  };

  it('is read as it was written', () => {
    assert.deepEqual(parseAcknowledgement(bytes(acknowledgement)), acknowledgement);
  });

  it('of a newer agent is read without the unknown fields', () => {
    const newer = { ...acknowledgement, code: 'CODE_OF_TOMORROW', weather: 'fine' };

    assert.deepEqual(parseAcknowledgement(bytes(newer)), { ...acknowledgement, code: 'CODE_OF_TOMORROW' });
  });

  it('that is invalid is refused with the place', () => {
    assert.throws(() => parseAcknowledgement(bytes({ ...acknowledgement, seq: 'x' })), {
      code: 'INVALID_FIELD',
      path: 'seq',
    });
    assert.throws(() => parseAcknowledgement(Uint8Array.of(0xff)), { code: 'INVALID_JSON' });
  });
});
