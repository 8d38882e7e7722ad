import { DIRECTIONS } from '../../support/directions.js';
import { replacementsAt } from '../support/transition-kinds.js';
import { testTransitions } from '../support/transitions.js';

for (const direction of DIRECTIONS) {
  testTransitions({
    host: `replacements-${direction}`,
    title: `as others are replaced or moved at ${direction}, each packet passes the remaining programs exactly once`,
    all: () => replacementsAt(direction),
  });
}
