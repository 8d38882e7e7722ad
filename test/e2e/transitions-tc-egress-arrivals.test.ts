import { arrivalsAt } from './support-transition-kinds.js';
import { testTransitions } from './support-transitions.js';

testTransitions({
  host: 'transitions-tc-egress-arrivals',
  title: 'as others come and go at egress, no packet misses a program that stays, or meets it twice',
  all: () => arrivalsAt('egress'),
});
