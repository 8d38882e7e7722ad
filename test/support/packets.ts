/*
 * Packets as bytes, layer within layer: `ethernet(ipv4(udp(9999)))`.
 */

export interface L4 {
  /** IP protocol number. */
  readonly protocol: number;
  readonly bytes: Buffer;
}

export interface L3 {
  readonly ethertype: number;
  readonly bytes: Buffer;
}

const SOURCE_PORT = 40000;

/** A UDP datagram with 18 bytes of payload, so that the frame needs no padding. Its checksum is 0, which means none. */
export function udp(destinationPort: number): L4 {
  const bytes = Buffer.alloc(8 + 18);
  bytes.writeUInt16BE(SOURCE_PORT, 0);
  bytes.writeUInt16BE(destinationPort, 2);
  bytes.writeUInt16BE(bytes.length, 4);
  return { protocol: 17, bytes };
}

/** A TCP SYN; its checksum is not filled in. */
export function tcp(destinationPort: number): L4 {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt16BE(SOURCE_PORT, 0);
  bytes.writeUInt16BE(destinationPort, 2);
  bytes[12] = 5 << 4;
  bytes[13] = 0x02;
  return { protocol: 6, bytes };
}

export interface Ipv4Fields {
  readonly tos?: number;
  /** Flags and fragment offset together: 16 bits. */
  readonly fragment?: number;
  /** A multiple of 4 bytes. */
  readonly options?: Buffer;
  /** Replaces the true length of the header, in 32-bit words. */
  readonly headerWords?: number;
}

/** From 192.0.2.1 to 192.0.2.2. */
export function ipv4(payload: L4, fields: Ipv4Fields = {}): L3 {
  const options = fields.options ?? Buffer.alloc(0);
  const header = Buffer.concat([Buffer.alloc(20), options]);
  header[0] = (4 << 4) | (fields.headerWords ?? header.length / 4);
  header[1] = fields.tos ?? 0;
  header.writeUInt16BE(header.length + payload.bytes.length, 2);
  header.writeUInt16BE(fields.fragment ?? 0, 6);
  header[8] = 64;
  header[9] = payload.protocol;
  header.set([192, 0, 2, 1], 12);
  header.set([192, 0, 2, 2], 16);
  header.writeUInt16BE(checksum(header), 10);
  return { ethertype: 0x0800, bytes: Buffer.concat([header, payload.bytes]) };
}

export interface Ipv6Fields {
  readonly trafficClass?: number;
  readonly flowLabel?: number;
}

/** From 2001:db8::1 to 2001:db8::2. */
export function ipv6(payload: L4, fields: Ipv6Fields = {}): L3 {
  const header = Buffer.alloc(40);
  header.writeUInt32BE(((6 << 28) | ((fields.trafficClass ?? 0) << 20) | (fields.flowLabel ?? 0)) >>> 0, 0);
  header.writeUInt16BE(payload.bytes.length, 4);
  header[6] = payload.protocol;
  header[7] = 64;
  header.writeUInt32BE(0x20010db8, 8);
  header[23] = 1;
  header.writeUInt32BE(0x20010db8, 24);
  header[39] = 2;
  return { ethertype: 0x86dd, bytes: Buffer.concat([header, payload.bytes]) };
}

/** An IPv6 hop-by-hop header of 16 bytes before `payload`: one longer than its minimum. */
export function hopByHop(payload: L4): L4 {
  const header = Buffer.alloc(16);
  header[0] = payload.protocol;
  header[1] = 1;
  header.set([1, 12], 2); // one PadN option over the rest
  return { protocol: 0, bytes: Buffer.concat([header, payload.bytes]) };
}

/** An IPv6 fragment header before `payload`. @param offset in units of 8 bytes */
export function fragmentExtension(payload: L4, offset: number): L4 {
  const header = Buffer.alloc(8);
  header[0] = payload.protocol;
  header.writeUInt16BE((offset << 3) | 1, 2);
  return { protocol: 44, bytes: Buffer.concat([header, payload.bytes]) };
}

/** A VLAN tag (number 100) before `payload`. */
export function vlan(payload: L3, ethertype = 0x8100): L3 {
  const tag = Buffer.alloc(4);
  tag.writeUInt16BE(100, 0);
  tag.writeUInt16BE(payload.ethertype, 2);
  return { ethertype, bytes: Buffer.concat([tag, payload.bytes]) };
}

/** A frame between two locally administered addresses, without its check sequence. */
export function ethernet(payload: L3): Buffer {
  const header = Buffer.from('0200000000020200000000010000', 'hex');
  header.writeUInt16BE(payload.ethertype, 12);
  return Buffer.concat([header, payload.bytes]);
}

/** The Internet checksum (RFC 1071); 0 over data that holds its own. @param data an even number of bytes */
export function checksum(data: Buffer): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += data.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
