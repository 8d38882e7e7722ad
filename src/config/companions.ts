import * as value from './values.js';

/** Rows of the table of settings: what concerns companions. */
export const COMPANION_SETTINGS = {
  companion_log_dir: {
    schema: value.path.optional(),
    placeholder: 'dir',
    description: 'where companions may write logs of their own; handed to them as --log-dir',
    absent: 'none: what they print goes to the log',
    example: '/var/log/l3af',
  },
  companion_settle_time: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'a daemon that ends sooner after its start has not started, and fails its command',
    default: '1s',
  },
  companion_ready_time: {
    schema: value.duration,
    placeholder: 'duration',
    description:
      'how long a daemon may take until its cmd_status says RUNNING, and until it has loaded a program that it loads itself',
    default: '10s',
  },
  companion_max_restarts: {
    schema: value.count,
    placeholder: 'count',
    description: 'restarts within companion_restart_window after which a companion is given up',
    default: '5',
  },
  companion_restart_window: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'how long restarts of a companion count; one that has run well for so long counts as healthy again',
    default: '10m',
  },
} as const;
