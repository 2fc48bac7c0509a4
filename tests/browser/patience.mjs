// Waiting that ends when nothing moves any more, never after a total time: a busy machine is slow, not stuck.

/** Seconds without any sign of life after which nothing is expected any more. */
export const QUIET = 60;
/** Seconds of the browser's processor time: a page that has worked so long without a sign goes round in circles. */
export const WORK = 120;
/** What a process that only waits may use of one core. */
export const IDLE_SHARE = 0.005;
/** Seconds between two looks. */
export const INTERVAL = 0.5;

/**
 * Throws from `check` when nothing has moved for long. `look` says {events, server, browser}: a number that changes with
 * everything that the page loads or hears, and the processor time of the server and of the browser in seconds. Pages draw
 * all the time, so the browser's work alone is no sign of life; but as long as it has not had its share nothing is given up.
 */
export class Patience {
  constructor(look, what, clock = () => performance.now() / 1000) {
    Object.assign(this, { look, what, clock, seen: look(), looked: clock(), silent: 0 });
  }

  check() {
    const [now, life] = [this.clock(), this.look()];
    const [server, browser] = [life.server - this.seen.server, life.browser - this.seen.browser];
    if (life.events !== this.seen.events || server > IDLE_SHARE * QUIET) {
      Object.assign(this, { seen: life, silent: 0 });
    } else {
      // Time in which nobody looked does not count: a machine that kept us waiting kept the others waiting too.
      this.silent += Math.min(now - this.looked, 2 * INTERVAL);
    }
    this.looked = now;
    const idle = browser < IDLE_SHARE * QUIET;
    if (browser > WORK || (idle && this.silent > QUIET)) {
      throw Error(`${this.what}: nothing has moved for ${this.silent.toFixed(0)} s (the page used ${browser.toFixed(1)} s)`);
    }
  }

  /** What a promise comes to, given up when nothing moves. */
  async waitFor(promise) {
    let timer;
    const stuck = new Promise((_, reject) => {
      timer = setInterval(() => {
        try {
          this.check();
        } catch (error) {
          reject(error);
        }
      }, 1000 * INTERVAL);
    });
    promise.catch(() => {}); // it may fail when the page is closed, long after it was given up
    return Promise.race([promise, stuck]).finally(() => clearInterval(timer));
  }
}
