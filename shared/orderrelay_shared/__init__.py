"""The contract that producers and workers share: orders, results, states, ids, the intake format.

Nothing here does I/O but the Redis connection; what each side does with the contract is in
`orderrelay_producers` and `orderrelay_workers`, which meet only here.
"""
