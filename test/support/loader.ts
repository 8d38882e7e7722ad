import { ObjectLoader } from '../../src/datapath/libbpf/objects/loader.js';

/** Shared by all datapaths of a test process, since it starts a process of its own. */
export const loader = new ObjectLoader();
