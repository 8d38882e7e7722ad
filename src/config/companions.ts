import * as value from './values.js';

/** Rows of the table of settings: those for companions. */
export const COMPANION_SETTINGS = {
  companion_log_dir: {
    schema: value.path.optional(),
    placeholder: 'dir',
    description: 'where companions may write their own logs; passed to them as --log-dir',
    absent: "none: their output goes to the agent's log",
    example: '/var/log/l3af',
  },
  companion_settle_time: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'a daemon that ends earlier than this after its start counts as not started, and its command fails',
    default: '1s',
  },
  companion_ready_time: {
    schema: value.duration,
    placeholder: 'duration',
    description:
      'how long a daemon may take until its cmd_status reports RUNNING, and until it has loaded the program that it loads itself',
    default: '10s',
  },
  companion_max_restarts: {
    schema: value.count,
    placeholder: 'count',
    description: 'number of restarts within companion_restart_window after which a companion is given up',
    default: '5',
  },
  companion_restart_window: {
    schema: value.duration,
    placeholder: 'duration',
    description:
      'how long a restart of a companion counts; a companion that has run for this time counts as healthy again',
    default: '10m',
  },
} as const;
