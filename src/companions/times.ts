/** How long companions may take, in milliseconds. */
export interface CompanionTimes {
  /** A daemon that ends sooner has not started. */
  readonly settleMs: number;
  /** For `cmd_start` of what is no daemon, `cmd_update`, `cmd_config` and `cmd_stop` to end. */
  readonly commandMs: number;
  /** For `cmd_status` to answer. */
  readonly statusMs: number;
  /** Until `cmd_status` says for the first time that a daemon is running. */
  readonly readyMs: number;
  /** From `cmd_stop` or SIGTERM until SIGKILL. */
  readonly stopMs: number;
  /** From SIGKILL until what is left is reported. */
  readonly killMs: number;
}

export const TIMES: CompanionTimes = {
  settleMs: 1_000,
  commandMs: 30_000,
  statusMs: 5_000,
  readyMs: 10_000,
  stopMs: 5_000,
  killMs: 5_000,
};
