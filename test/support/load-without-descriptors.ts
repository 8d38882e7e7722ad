import { openSync } from 'node:fs';
import { ObjectLoader } from '../../src/datapath/libbpf/objects/loader.js';
import { faultsOf } from '../../src/errors.js';

/*
 * A process that has as many files open as it may, and then loads an object. Arguments: bpffs. It prints the code of the
 * error.
 */

const [bpffs = ''] = process.argv.slice(2);
try {
  for (;;) openSync('/dev/null', 'r');
} catch {
  // There are no more descriptors.
}
const hook = { iface: 'l3none0', direction: 'xdpingress' } as const;
const request = { hook, dir: `${bpffs}/none`, objectPath: '', entryFunction: '', slotMap: '', share: [], fill: [] };
await new ObjectLoader().load({ kind: 'program', request, bpffs, maxMapBytes: 0 }).catch((error: unknown) => {
  console.log(faultsOf(error)[0].code);
});
