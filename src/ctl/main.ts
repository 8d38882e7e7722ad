#!/usr/bin/env node
import { packageVersion } from './version.js';

// The rest, which takes most of the start, is evaluated only where it is needed.
if (['version', '--version', '-V'].includes(process.argv.slice(2).join(' ')))
  process.stdout.write(`${packageVersion()}\n`);
else await (await import('./cli.js')).runProgram();
