import { numberIn } from '../../src/domain/monitor.js';
import { kernelFixture } from '../contract/kernel.js';
import { discard, load, PORT_COUNT } from '../contract/samples.js';

const VALUES = 1000;
const ROUNDS = 200;

/** Processor time to read {@link VALUES} values from kernel maps, in milliseconds per pass. */
export async function readingCost(): Promise<number> {
  const fixture = await kernelFixture();
  try {
    const args = Array.from({ length: VALUES }, (_, port) => ({ key: port, value: 1 }));
    const fill = [{ name: 'port_packets', args, path: 'map_args.0' }];
    const program = await load(fixture, PORT_COUNT, 'xdpingress', { fill });
    const { hooks } = await fixture.datapath.observe();
    const { maps } = hooks.flatMap(({ loadedPrograms }) => loadedPrograms).find(({ dir }) => dir === program.dir)!;
    const keys = args.map(({ key }) => Buffer.from([key & 255, key >> 8]));
    const mapId = maps.find(({ name }) => name === 'port_packets')!.id;
    const place = { offset: 0, size: 8, signed: false, network: false };
    const begun = process.cpuUsage();
    for (let round = 0; round < ROUNDS; round++) {
      const [reading] = await fixture.datapath.readMaps([{ pin: program.map('port_packets'), mapId, keys }]);
      const sum = reading!.values.reduce((total, value) => total + numberIn(value, reading!.stride, place), 0);
      if (sum !== VALUES) throw new Error(`read ${sum} instead of ${VALUES}`);
    }
    const { user, system } = process.cpuUsage(begun);
    await discard(fixture, program);
    return (user + system) / 1000 / ROUNDS;
  } finally {
    await fixture.close();
  }
}
