/** An IPv4, IPv6 or MAC address in network order; undefined for any other text. */
export function parseAddress(text: string): Buffer | undefined {
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return Buffer.from(text.replaceAll(':', ''), 'hex');
  return parseIpv4(text) ?? parseIpv6(text);
}

function parseIpv4(text: string): Buffer | undefined {
  const parts = text.split('.');
  // Some programs read a leading zero as octal, others as decimal.
  const sound = parts.length === 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255);
  return sound ? Buffer.from(parts.map(Number)) : undefined;
}

/** Parses all forms of RFC 4291, section 2.2, except zones, which mean nothing in a packet. */
function parseIpv6(text: string): Buffer | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const zeros = 16 - head.length - (tail?.length ?? 0);
  if (tail === undefined ? zeros !== 0 : zeros < 2) return undefined;
  return Buffer.concat([head, Buffer.alloc(zeros), tail ?? Buffer.alloc(0)]);
}

/** Parses groups of 16 bits between colons. An IPv4 address may take the place of the last two groups. */
function parseGroups(text: string, mayEndInIpv4: boolean): Buffer | undefined {
  if (text === '') return Buffer.alloc(0);
  const groups = text.split(':');
  const bytes = groups.map((group, index) => {
    if (/^[0-9a-f]{1,4}$/i.test(group)) return Buffer.from(group.padStart(4, '0'), 'hex');
    return mayEndInIpv4 && index === groups.length - 1 ? parseIpv4(group) : undefined;
  });
  return bytes.includes(undefined) ? undefined : Buffer.concat(bytes as Buffer[]);
}
