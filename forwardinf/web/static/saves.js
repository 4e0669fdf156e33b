// Decisions on their way to the server: one after the other in the order of deciding, and none dropped.
import { post } from './sending.js';

export function saves(onChange, onSaved, onRefused) {
  const waiting = [];
  let sending = null, problem = '', saved = 0;

  const tell = () => onChange({ waiting: waiting.length, problem, saved });
  async function sendAll() {
    problem = '';
    while (waiting.length && !problem) {
      tell();
      const [first] = waiting;
      try {
        const said = await post(first.url, first.body);
        waiting.shift();
        saved += 1;
        onSaved(first, said, waiting);
      } catch (error) {
        if (error.refused) {
          waiting.shift(); // it would be refused again
          onRefused(first, error.message);
        } else problem = error.message;
      }
    }
    sending = null;
    tell();
  }
  /** Resolves when nothing waits any more, or a save failed. */
  function send() {
    sending ??= sendAll();
    return sending;
  }
  return {
    add(save) {
      waiting.push(save);
      return send();
    },
    again: send,
    get waiting() {
      return waiting.length;
    },
  };
}
