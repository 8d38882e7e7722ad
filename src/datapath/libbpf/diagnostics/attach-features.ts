import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { ATTACH_DRIVERS } from '../attach/drivers.js';
import { attempt, type Feature } from './attempt.js';

const run = promisify(execFile);

/** Tries the attach points on a veth pair that exists only for this. */
export async function attachFeatures(): Promise<Feature[]> {
  const features = Object.values(ATTACH_DRIVERS).flatMap((driver) => driver.features);
  const iface = `l3chk${randomBytes(3).toString('hex')}`;
  try {
    await run('ip', ['link', 'add', iface, 'type', 'veth', 'peer', 'name', `${iface}p`]);
  } catch (error) {
    const reason = `cannot create a veth pair to try it on: ${whatWasSaid(error)}`;
    return features.map(({ name }) => ({ name, ok: false, reason }));
  }
  try {
    return features.map(({ name, tryOut }) => attempt(name, () => tryOut(iface)));
  } finally {
    await run('ip', ['link', 'delete', iface]);
  }
}

/** The error output of `ip`, or why it could not be run. */
function whatWasSaid(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const said = 'stderr' in error ? String(error.stderr).trim() : '';
  return said === '' ? error.message : said;
}
