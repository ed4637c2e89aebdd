"""What every worker does beside its tasks: beat, book the intake, promote what is due, sweep what lapsed.

There is no scheduler and no leader. Every worker does all of it; guarded statements make that safe.
"""
