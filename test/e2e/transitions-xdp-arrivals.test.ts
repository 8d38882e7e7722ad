import { arrivalsAt } from './support-transition-kinds.js';
import { testTransitions } from './support-transitions.js';

testTransitions({
  host: 'transitions-xdp-arrivals',
  title: 'as others come and go at xdpingress, no packet misses a program that stays, or meets it twice',
  all: () => arrivalsAt('xdpingress'),
});
