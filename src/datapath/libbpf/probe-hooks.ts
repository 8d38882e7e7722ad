import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { check } from './errno.js';
import { Fd } from './fd.js';
import { libbpf } from './ffi.js';
import { interfaceIndex } from './interfaces.js';
import { ATTACH_TYPE } from './link.js';
import { tryTcFilter } from './clsact.js';
import { type Probe, probe } from './probe.js';
import { loadProbeProgram } from './probe-program.js';

const run = promisify(execFile);
