import { arrivalsAt } from './support-transition-kinds.js';
import { testTransitions } from './support-transitions.js';

testTransitions({
  host: 'transitions-tc-ingress-arrivals',
  title: 'as others come and go at ingress, no packet misses a program that stays, or meets it twice',
  all: () => arrivalsAt('ingress'),
});
