import { DIRECTIONS } from '../../support/directions.js';
import { arrivalsAt } from '../support/transition-kinds.js';
import { testTransitions } from '../support/transitions.js';

for (const direction of DIRECTIONS) {
  testTransitions({
    host: `arrivals-${direction}`,
    title: `as others are added and removed at ${direction}, each packet passes the remaining programs exactly once`,
    all: () => arrivalsAt(direction),
  });
}
