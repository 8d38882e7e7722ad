import { contract } from '../../../contract/datapath-contract.js';
import { kernelFixture } from '../../../contract/kernel.js';

contract('libbpf, with TCX', () => kernelFixture({ tc: 'tcx' }));
contract('libbpf, with clsact filters and generic XDP', () => kernelFixture({ tc: 'clsact', xdp: 'generic' }), {
  ordersLinks: false,
});
