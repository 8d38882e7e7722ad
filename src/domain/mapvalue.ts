import type { MapInfo } from './observed.js';
import type { MapArgs } from './program.js';
export function isArrayKind(type: number): boolean { return [2, 6].includes(type); }
export function encodeMapArgs(map: Pick<MapInfo, 'name'|'type'|'keySize'|'valueSize'>, args: MapArgs, _path: string): { key: string; value: string }[] {
  const enc = (v: number | string, n: number) => { const b = Buffer.alloc(n); let x = BigInt(v); for (let i = 0; i < n; i++) { b[i] = Number(x & 255n); x >>= 8n; } return b.toString('hex'); };
  return args.args.map(({ key, value }) => ({ key: enc(key, map.keySize), value: enc(value, map.valueSize) }));
}
