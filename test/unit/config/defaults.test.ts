import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { describe, it } from 'node:test';
import { loadConfig } from '../../../src/config.js';

describe('the defaults of settings', () => {
  it('exist for everything that an agent needs to start', () => {
    const { config } = loadConfig({});

    assert.deepEqual(config, {
      config: undefined,
      natsUrl: undefined,
      natsCreds: undefined,
      natsNkey: undefined,
      natsUserFile: undefined,
      natsPasswordFile: undefined,
      natsTokenFile: undefined,
      natsTlsHandshakeFirst: false,
      natsTlsCa: undefined,
      natsTlsCert: undefined,
      natsTlsKey: undefined,
      hostName: hostname(),
      hostId: undefined,
      prefix: 'l3af',
      jsApiPrefix: undefined,
      inboxPrefix: undefined,
      labels: {},
      stateDir: '/var/lib/l3af-agent',
      bpffs: '/sys/fs/bpf',
      repoUrl: undefined,
      repoTlsCa: undefined,
      signaturePolicy: 'off',
      trustedKeys: undefined,
      platform: undefined,
      chaining: true,
      companionLogDir: undefined,
      companionSettleTime: 1000,
      companionReadyTime: 10_000,
      companionMaxRestarts: 5,
      companionRestartWindow: 600_000,
      datapath: 'libbpf',
      xdpMode: 'auto',
      tcMode: 'auto',
      runStats: false,
      xdpRootArtifact: undefined,
      xdpRootPackageName: 'xdp-root',
      xdpRootVersion: 'latest',
      xdpRootObjectFile: 'xdp_root.bpf.o',
      xdpRootEntryFunctionName: 'xdp_root',
      xdpRootIngressMapName: 'xdp_root_array',
      tcRootArtifact: undefined,
      tcRootPackageName: 'tc-root',
      tcRootVersion: 'latest',
      tcRootIngressObjectFile: 'tc_root_ingress.bpf.o',
      tcRootEgressObjectFile: 'tc_root_egress.bpf.o',
      tcRootIngressEntryFunctionName: 'tc_ingress_root',
      tcRootEgressEntryFunctionName: 'tc_egress_root',
      tcRootIngressMapName: 'tc_ingress_root_array',
      tcRootEgressMapName: 'tc_egress_root_array',
      metricsAddr: { host: '127.0.0.1', port: 8898 },
      snapshotInterval: 60_000,
      metricsInterval: 10_000,
      monitorInterval: 1000,
      monitorSamples: 20,
      reconcileInterval: 10_000,
      logLevel: 'info',
    });
  });
});
