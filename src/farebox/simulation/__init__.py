"""The runtime under one seed: real followers, workers and actors over the memory log, in virtual time, with every fault.

    python -m farebox.simulation --seeds 10000

A seed chooses the tasks, the order of everything, and what goes wrong: crashes at any step, frozen processes that wake up
later, facts handed out twice, answers lost, appends that arrive late, providers that fail, cut and charge. A seed that
breaks a law is the report of a bug; running it again repeats the bug to the letter.
"""
