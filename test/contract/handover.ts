import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { describe, test } from 'node:test';
import type { CaptureRequest } from '../../src/datapath/datapath.js';
import { handoverPin } from '../../src/domain/pins.js';
import {
  discard,
  type Fixture,
  KEY_0,
  type Loaded,
  load,
  observed,
  PORT_COUNT,
  programId,
  refused,
  requestFor,
  TC_COUNT,
  u64,
} from './samples.js';

/** Makes a handover slot for port-count and puts a program into it that was loaded elsewhere, as a companion does. */
async function handedOver(fixture: Fixture, source: Loaded): Promise<{ request: CaptureRequest; there: Loaded }> {
  const { hook, dir, slotMap } = requestFor(fixture, PORT_COUNT, 'xdpingress');
  await fixture.datapath.makeHandover(dir, null);
  await fixture.datapath.setSlot(handoverPin(dir), source.program);
  const claim = { folder: dirname(source.publicPath('map')), except: [] };
  return { request: { hook, dir, slotMap, share: [], fill: [], claim }, there: { ...source, hook, dir } };
}

/** Programs that are loaded by others. */
export function handoverContract(fixtureOf: () => Fixture): void {
  describe('a program that a companion has loaded', () => {
    test('is taken over with its slot and its maps, and the slot is emptied', async () => {
      const fixture = fixtureOf();
      const { datapath } = fixture;
      const [source, next] = [
        await load(fixture, PORT_COUNT, 'xdpingress'),
        await load(fixture, PORT_COUNT, 'xdpingress'),
      ];
      await datapath.setSlot(source.slot, next.program);
      const [id, before] = [await programId(fixture, source), await observed(fixture, source)];
      const { request, there } = await handedOver(fixture, source);
      assert.equal(await datapath.handedOver(request.dir), id);
      await datapath.discard(source.dir);
      await datapath.capture(request);

      const taken = await observed(fixture, there);
      assert.deepEqual([taken?.programId, taken?.handedOver], [id, id]);
      assert.deepEqual(taken?.slot, { mapId: before!.slot!.mapId, next: null });
      assert.deepEqual(
        taken?.maps.map(({ name, id: map }) => [name, map]),
        before!.maps.map(({ name, id: map }) => [name, map]),
      );
      await discard(fixture, there, next);
    });

    test('does not exist before it is put into the handover slot', async () => {
      const fixture = fixtureOf();
      const source = await load(fixture, PORT_COUNT, 'xdpingress');
      const { request, there } = await handedOver(fixture, source);
      await fixture.datapath.setSlot(handoverPin(request.dir), null);
      assert.equal(await fixture.datapath.handedOver(request.dir), null);
      await refused(fixture.datapath.capture(request), 'LOAD_FAILED', 'has put no program');
      await fixture.datapath.discard(there.dir);
      await discard(fixture, source);
    });

    test('gets its map_args and the requested slot, or stays as it was', async () => {
      const fixture = fixtureOf();
      const { datapath } = fixture;
      const source = await load(fixture, PORT_COUNT, 'xdpingress');
      const { request, there } = await handedOver(fixture, source);
      await datapath.discard(source.dir);
      const args = (name: string) => ({ name, args: [{ key: 0, value: 7 }], path: 'map_args.0' });
      await refused(datapath.capture({ ...request, slotMap: 'other_next' }), 'SLOT_INVALID', 'other_next');
      const { path } = await refused(
        datapath.capture({ ...request, fill: [args('limits')] }),
        'MAP_NOT_FOUND',
        'limits',
      );
      assert.equal(path, 'map_args.0.name');
      assert.equal((await observed(fixture, there))?.programId, undefined);

      await datapath.capture({ ...request, fill: [args('packet_count')] });
      const value = await datapath.readMap(`${request.dir}/maps/packet_count`, KEY_0);
      assert.equal(Buffer.from(value!).toString('hex'), u64(7));
      await discard(fixture, there);
    });

    test('must not use the slot of a running program, and must have the type of the hook', async () => {
      const fixture = fixtureOf();
      const [source, other] = [await load(fixture, PORT_COUNT, 'xdpingress'), await load(fixture, TC_COUNT, 'ingress')];
      const { request, there } = await handedOver(fixture, source);
      await refused(fixture.datapath.capture(request), 'SLOT_INVALID');
      await fixture.datapath.discard(there.dir);
      const wrong = await handedOver(fixture, other);
      await refused(fixture.datapath.capture(wrong.request), 'LOAD_FAILED');
      await fixture.datapath.discard(wrong.there.dir);
      await discard(fixture, source, other);
    });

    test('must use the maps that are carried over', async () => {
      const fixture = fixtureOf();
      const [old, source] = [
        await load(fixture, PORT_COUNT, 'xdpingress'),
        await load(fixture, PORT_COUNT, 'xdpingress'),
      ];
      const { request, there } = await handedOver(fixture, source);
      await fixture.datapath.discard(source.dir);
      const share = (from: Loaded) => [{ map: 'packet_count', pin: from.map('packet_count') }];
      await refused(fixture.datapath.capture({ ...request, share: share(old) }), 'MAP_INCOMPATIBLE', 'packet_count');
      await fixture.datapath.discard(there.dir);

      const sharing = await load(fixture, PORT_COUNT, 'xdpingress', { share: share(old) });
      const again = await handedOver(fixture, sharing);
      await fixture.datapath.discard(sharing.dir);
      await fixture.datapath.capture({ ...again.request, share: share(old) });
      await discard(fixture, again.there, old);
    });
  });
}
