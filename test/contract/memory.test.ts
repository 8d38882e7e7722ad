import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { contract } from './datapath-contract.js';

contract('in memory', async () => {
  const bpffs = '/sys/fs/bpf';
  const datapath = new MemoryDatapath({ bpffs, interfaces: new Map([['eth7', 7]]) });
  return { datapath, bpffs, iface: 'eth7', cgroup: '/seventh', close: () => datapath.close() };
});
