import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { UNPACK_LIMITS } from '../../../src/packages/limits.js';
import { unpack } from '../../../src/packages/unpack.js';
import { paxHeader, type TarEntry, tar, tarGz, type ZipEntry, zip } from '../../support/archives.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

type Hostile = readonly [what: string, archive: Buffer, message: RegExp];

const GOOD = { path: 'prog.bpf.o', content: 'x'.repeat(700) };
const LONG_NAME = 'n'.repeat(256);

const TARS: readonly Hostile[] = [
  ['an absolute path', tarGz([{ path: '/etc/cron.d/x' }]), /"\/etc\/cron.d\/x" is an absolute path/],
  ['a path that leads out', tarGz([{ path: '../x' }]), /leads out of the package/],
  ['a path that leads out from a folder', tarGz([{ path: 'a/../../x' }]), /leads out of the package/],
  ['a folder that leads out', tarGz([{ path: 'a/..', type: '5' }]), /leads out of the package/],
  ['backslashes', tarGz([{ path: '..\\x' }]), /holds a backslash/],
  ['a newline in a name', tarGz([{ path: 'a\nb' }]), /control characters/],
  ['a name that is not UTF-8', gzipSync(Buffer.concat([notUtf8(), Buffer.alloc(1024)])), /is not UTF-8/],
  ['a NUL in a pax name', tarGz([paxHeader('path', 'harmless\0/../x'), GOOD]), /a name holds a NUL/],
  ['a pax name that leads out', tarGz([paxHeader('path', '../../etc/xx'), GOOD]), /leads out of the package/],
  ['a GNU long name that leads out', tarGz([{ path: 'L', type: 'L', content: '../x\0' }, GOOD]), /leads out/],
  ['a name of 256 bytes', tarGz([{ path: 'L', type: 'L', content: `${LONG_NAME}\0` }, GOOD]), /is too long/],
  ['a symbolic link', tarGz([{ path: 'a', type: '2', linkTo: '/etc' }]), /"a" is a symbolic link/],
  ['a file through a link', tarGz([{ path: 'a', type: '2', linkTo: '/tmp' }, { path: 'a/x' }]), /symbolic link/],
  ['a hard link', tarGz([{ path: 'a', type: '1', linkTo: '/etc/shadow' }]), /"a" is a hard link/],
  ['a character device', tarGz([{ path: 'a', type: '3' }]), /"a" is a character device/],
  ['a block device', tarGz([{ path: 'a', type: '4' }]), /"a" is a block device/],
  ['a FIFO', tarGz([{ path: 'a', type: '6' }]), /"a" is a FIFO/],
  ['a sparse file', tarGz([{ path: 'a', type: 'S' }]), /"a" is a sparse file or another special entry/],
  ['a set-user-id bit', tarGz([{ path: 'a', mode: 0o4755 }]), /"a" has a set-user-id or set-group-id bit/],
  ['a set-group-id bit', tarGz([{ path: 'a', mode: 0o2755 }]), /set-group-id bit/],
  ['the same file twice', tarGz([{ path: 'a' }, { path: './a' }]), /"a" is in it twice/],
  ['a file that was a folder', tarGz([{ path: 'a/b' }, { path: 'a' }]), /both a file and a folder/],
  ['a folder that was a file', tarGz([{ path: 'a' }, { path: 'a/b' }]), /"a" is in it twice/],
  ['a wrong header checksum', tarGz([{ path: 'a', statedChecksum: 1 }]), /checksum failure/],
  ['a size beyond the end', tarGz([{ path: 'a', content: 'x', statedSize: 1e6 }]), /Truncated input/],
  ['no files', tarGz([{ path: 'a', type: '5' }]), /it holds no files/],
  ['nothing at all', Buffer.alloc(0), /unexpected end of file/],
  ['a truncated gzip stream', tarGz([GOOD]).subarray(0, 60), /unexpected end of file/],
  ['a tar truncated within a file', gzipSync(tar([GOOD]).subarray(0, 1024)), /Truncated input/],
  ['a tar truncated between files', gzipSync(tar([GOOD]).subarray(0, 1536)), /end-of-archive mark is missing/],
  ['a tar that is not compressed', tar([GOOD]), /incorrect header check/],
  ['a tar that is compressed twice', gzipSync(tarGz([GOOD])), /compressed twice/],
  ['an object file by another name', Buffer.from('\x7fELF and so on'), /incorrect header check/],
  ['garbage behind the gzip stream', Buffer.concat([tarGz([GOOD]), Buffer.from('garbage')]), /incorrect header check/],
  ['a sparse file in pax', tarGz([paxHeader('GNU.sparse.major', '1'), { path: 'a', type: 'S' }]), /sparse file/],
  ['a pax size beyond the end', tarGz([paxHeader('size', '1000000'), GOOD]), /Truncated input/],
  ['a name as a folder and a file', tarGz([{ path: 'a/', type: '5' }, { path: 'a' }]), /both a file and a folder/],
  ['a path of 2000 bytes', tarGz([{ path: 'L', type: 'L', content: `${'d/'.repeat(1000)}x\0` }, GOOD]), /is too long/],
  ['an escape sequence in a name', tarGz([{ path: 'a\u001b[2J' }]), /control characters/],
  [
    'an entry behind an empty block',
    gzipSync(Buffer.concat([firstOf(GOOD), Buffer.alloc(512), tar([{ path: 'b' }])])),
    /entries after its end/,
  ],
  ['a pax name with a line break', tarGz([paxHeader('path', 'a\n9 path=b'), GOOD]), /holds a line break/],
  [
    'a pax name for all files',
    tarGz([{ ...paxHeader('path', '../xx'), type: 'g' }, GOOD]),
    /sets the path of all files/,
  ],
  ['another archive behind zeros', Buffer.concat([tarGz([GOOD]), Buffer.alloc(9), zip([GOOD])]), /data after its end/],
  ['a sparse file of type file', tarGz([paxHeader('GNU.sparse.major', '1'), GOOD]), /sparse file/],
  ['another name of a sparse file', tarGz([paxHeader('GNU.sparse.name', 'xx'), GOOD]), /sparse file/],
  ['a web page, compressed', gzipSync(`<html>${'not a package '.repeat(100)}</html>`), /checksum failure/],
];

const ZIPS: readonly Hostile[] = [
  ['an absolute path', zip([{ path: '/etc/x' }]), /absolute path/],
  ['a path that leads out', zip([{ path: 'a/../../x' }]), /relative path/],
  ['backslashes', zip([{ path: '..\\x' }]), /invalid characters in fileName/],
  ['a drive letter', zip([{ path: 'C:/x' }]), /absolute path/],
  ['a NUL in a name', zip([{ path: 'a\0b' }]), /control characters/],
  ['a symbolic link', zip([{ path: 'a', content: '/etc', mode: 0o120777 }]), /"a" is a symbolic link/],
  ['a link by a Windows archiver', notUnix({ path: 'a', content: '/etc', mode: 0o120777 }), /symbolic link/],
  ['a character device', zip([{ path: 'a', mode: 0o020666 }]), /"a" is a character device/],
  ['a block device', zip([{ path: 'a', mode: 0o060666 }]), /"a" is a block device/],
  ['a FIFO', zip([{ path: 'a', mode: 0o010666 }]), /"a" is a FIFO/],
  ['a socket', zip([{ path: 'a', mode: 0o140666 }]), /"a" is a socket/],
  ['a set-user-id bit', zip([{ path: 'a', mode: 0o104755 }]), /set-user-id/],
  ['the same file twice', zip([{ path: 'a' }, { path: 'a' }]), /"a" is in it twice/],
  ['a wrong CRC', zip([{ path: 'a', content: 'x', statedCrc: 1 }]), /"a" is damaged/],
  ['a wrong size', zip([{ path: 'a', content: 'x', statedSize: 2 }]), /size mismatch/],
  ['deflated garbage', zip([{ path: 'a', content: 'garbage', method: 8 }]), /invalid|incorrect/],
  ['an unknown compression', zip([{ path: 'a', content: 'x', method: 99 }]), /unsupported compression method/],
  ['an encrypted entry', zip([{ path: 'a', content: 'x'.repeat(13), statedSize: 1, flags: 1 }]), /is encrypted/],
  ['no files', zip([]), /it holds no files/],
  ['a truncated end', zip([GOOD]).subarray(0, -10), /not a zip file, or file is truncated/],
  ['a missing start', zip([GOOD]).subarray(100), /unexpected EOF/],
  ['another name in its local header', otherLocalName(), /local header/],
  ['an escape sequence in a name', zip([{ path: 'a\u001b[2J' }]), /control characters/],
  ['a file through a link', zip([{ path: 'a', content: '/tmp', mode: 0o120777 }, { path: 'a/x' }]), /symbolic link/],
  ['a set-group-id bit', zip([{ path: 'a', mode: 0o102755 }]), /set-group-id/],
  ['a file that was a folder', zip([{ path: 'a/b' }, { path: 'a' }]), /both a file and a folder/],
  ['a file with the name of a folder', zip([{ path: 'a/', mode: 0o100644 }, GOOD]), /both a file and a folder/],
  ['a name of 256 bytes', zip([{ path: LONG_NAME }]), /is too long/],
  ['a tar archive inside', tarGz([GOOD]), /not a zip file/],
];

for (const [artifact, archives] of [['p.tar.gz', TARS] as const, ['p.zip', ZIPS] as const]) {
  for (const [what, bytes, message] of archives) {
    test(`${artifact} with ${what} is refused`, async (t) => {
      const scratch = await scratchFolder(t);
      const path = join(scratch, 'artifact');
      await writeFile(path, bytes);
      const archive = { path, digest: sha256(bytes), size: bytes.length };
      const refused = unpack(artifact, archive, join(scratch, 'content'), UNPACK_LIMITS);
      const error = await rejectsWith(refused, 'ARTIFACT_INVALID', message);
      if (!error.message.startsWith(`Artifact ${artifact} is refused: `)) throw error;
    });
  }
}

/** The first entry of an archive, without the archive's end. */
function firstOf(entry: TarEntry): Buffer {
  return tar([entry]).subarray(0, -1024);
}

/** An entry whose name is the byte 0xff, with a correct checksum. */
function notUtf8(): Buffer {
  const entry = tar([{ path: 'a' }]).subarray(0, 512);
  const sum = Number.parseInt(entry.toString('latin1', 148, 155), 8) - 0x61 + 0xff;
  entry[0] = 0xff;
  entry.write(`${sum.toString(8).padStart(7, '0')}\0`, 148);
  return entry;
}

/** "Version made by" names MS-DOS as the host. */
function notUnix(entry: ZipEntry): Buffer {
  const bytes = zip([entry]);
  bytes[bytes.indexOf('PK\x01\x02') + 5] = 0;
  return bytes;
}

/** Different readers see a different file name in this archive. */
function otherLocalName(): Buffer {
  const bytes = zip([{ path: 'good.o', content: 'x' }]);
  bytes.write('evil.o', bytes.indexOf('good.o'));
  return bytes;
}
