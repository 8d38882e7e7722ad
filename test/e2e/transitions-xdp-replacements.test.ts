import { replacementsAt } from './support-transition-kinds.js';
import { testTransitions } from './support-transitions.js';

testTransitions({
  host: 'transitions-xdp-replacements',
  title: 'as others are replaced or moved at xdpingress, no packet misses a program that stays, or meets it twice',
  all: () => replacementsAt('xdpingress'),
});
