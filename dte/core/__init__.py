"""The core: decides which operation goes to which worker, without touching the world.

Its laws:

1. It has no sockets, clock, threads, chance or log. Inputs are method calls with `now`, seconds on
   any clock that does not go back; outputs are the values of `Scheduler.tick` and
   `JobTable.facts`. The jitter of pauses comes from a seed.
2. A worker gets only operations whose operands are known, of jobs that are recorded.
3. A hand-over is a lease. A result under a lease that has ended changes nothing.
4. A job ends once, along its state table, and its calls end with it. Nobody sees an end before it
   is recorded.
5. Every bound has a name, and a refusal names it.
6. Making an operation ready, handing it over and finishing it each cost O(1).

Its map, each folder above those that it imports:

    why ─▶ scheduler ─┬─▶ arithmetic ─┬─▶ jobs ────┬─▶ graph ◀─ formula
                      └─▶ calls ──────┴─▶ workers ─┘

    formula     texts become operations
    graph       the DAG of a job: arithmetic as flat arrays, calls as objects
    jobs        every job from its acceptance until it is forgotten; the facts to be recorded
    workers     the known workers, and those with a free slot
    arithmetic  batches of operations; operations that may have ended a worker
    calls       calls of handlers, from the first attempt to the last
    scheduler   the facade: workers, results and recorded facts in, one tick out
    why         the reasons why a job has not ended
"""
