import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { JetStreamClient, JetStreamManager, PubAck } from 'nats';
import { uploadObject } from '../../../src/client/object-upload.js';

/** A store that answers each message only on request, and records what arrives in which order. */
function slowStore() {
  const calls: string[] = [];
  const answers: Deferred<PubAck>[] = [];
  const js = {
    publish: (subject: string) => {
      calls.push(subject.includes('.C.') ? 'chunk' : 'object');
      const answer = deferred<PubAck>();
      answers.push(answer);
      return answer.promise;
    },
  } as unknown as JetStreamClient;
  const jsm = {
    streams: {
      purge: async () => {
        calls.push('purge');
        return { success: true, purged: 0 };
      },
    },
  } as unknown as JetStreamManager;
  return { js, jsm, calls, answers };
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((ok, fail) => {
    resolve = ok;
    reject = fail;
  });
  return { promise, resolve, reject };
}

async function* bytes(count: number): AsyncGenerator<Uint8Array> {
  yield Buffer.alloc(count);
}

const ACKNOWLEDGED = {
  stream: 'OBJ_packages',
  seq: 1,
  duplicate: false,
  domain: '',
  ack: () => {},
} as unknown as PubAck;

test('when a chunk is refused, the chunks are removed after the last answer of the batch, and not before', async () => {
  const store = slowStore();
  const uploaded = uploadObject(
    { ...store, bucket: 'packages', name: 'one', maxPayload: 2000 },
    { content: bytes(3000) },
  );
  uploaded.catch(() => {});
  while (store.answers.length < 3) await setImmediate();

  // when the one in the middle is refused while another answer is still missing
  store.answers[0]!.resolve(ACKNOWLEDGED);
  store.answers[1]!.reject(new Error('maximum bytes exceeded'));
  for (let turn = 0; turn < 20; turn++) await setImmediate();

  // then nothing is removed yet, because another chunk may still arrive
  assert.deepEqual(store.calls, ['chunk', 'chunk', 'chunk']);
  store.answers[2]!.resolve(ACKNOWLEDGED);
  await assert.rejects(uploaded, /maximum bytes exceeded/);
  assert.deepEqual(store.calls, ['chunk', 'chunk', 'chunk', 'purge']);
});
