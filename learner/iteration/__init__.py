"""One turn of the loop: freeze the votes, train a preference model, train a candidate, evaluate it, publish it.

`python -m learner.iteration ID` takes one turn in a process of its own (`process`). Every stage leaves its result in
the iteration's folder, so that a process that takes over after a kill goes on where the last one was. What is written
to the record is written under the learner lease: a process that lost it can change nothing.
"""
