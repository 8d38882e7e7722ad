/** How long companions may take, in milliseconds. */
export interface CompanionTimes {
  /** A daemon that ends within this time has failed to start. */
  readonly settleMs: number;
  /** For `cmd_update`, `cmd_config`, `cmd_stop`, and `cmd_start` of a companion that is not a daemon. */
  readonly commandMs: number;
  /** For `cmd_status`. */
  readonly statusMs: number;
  /** From the start of a daemon until `cmd_status` first says that it is running. */
  readonly readyMs: number;
  /** From `cmd_stop` or SIGTERM until SIGKILL. */
  readonly stopMs: number;
  /** From SIGKILL until processes that still run are reported. */
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
