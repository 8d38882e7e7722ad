/*
 * Interprets libbpf's messages about a failed open or load. Works on text only.
 */

/** The verifier's own lines in libbpf's output about a failed load; empty if it was not the verifier that refused. */
export function verifierLog(text: string): string[] {
  const log = /-- BEGIN PROG LOAD LOG --\n([\s\S]*?)-- END PROG LOAD LOG --/.exec(text)?.[1] ?? '';
  return log.split('\n').filter((line) => line.trim() !== '' && !isStatistics(line));
}

/** The statistics at the end of every verifier log (print_verification_stats in kernel/bpf/verifier.c). */
function isStatistics(line: string): boolean {
  return /^(processed \d+ insns|verification time|stack depth|arg#\d+ reference type)/.test(line);
}

/**
 * The verifier's verdict as one line: what it prints after the last instruction that it checked.
 *
 * @returns undefined for an empty log
 */
export function verdict(log: readonly string[]): string | undefined {
  const telling = log.filter((line) => !/^(cur|old) state: /.test(line));
  const reasons = telling.slice(telling.findLastIndex(isTrace) + 1);
  return reasons.length === 0 ? telling.at(-1)?.trim() : reasons.map((line) => line.trim()).join('; ');
}

/** Instructions, source lines, register states and the trace through them, as opposed to a reason. */
function isTrace(line: string): boolean {
  return /^(\d+: |; |from \d+ to \d+|func#|mark_precise|last_idx|regs=|parent )/.test(line);
}

/** Why an object could not be opened or loaded: libbpf's first complaint, without its prefix. */
export function firstComplaint(text: string): string | undefined {
  return text
    .split('\n')
    .map((line) => line.replace(/^libbpf: /, '').trim())
    .find(
      (line) =>
        line !== '' && !/Retrying without BTF|BTF is optional|Ignored and continue|failed to load object/.test(line),
    );
}
