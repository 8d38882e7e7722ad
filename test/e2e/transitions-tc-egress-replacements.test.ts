import { replacementsAt } from './support-transition-kinds.js';
import { testTransitions } from './support-transitions.js';

testTransitions({
  host: 'transitions-tc-egress-replacements',
  title: 'as others are replaced or moved at egress, no packet misses a program that stays, or meets it twice',
  all: () => replacementsAt('egress'),
});
