"""The worker: it runs the orchestration and its activity, until it is interrupted."""

import signal

from durabletask.worker import TaskHubGrpcWorker

from workflow import connection, postcards, sign

STOP = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, STOP)

with TaskHubGrpcWorker(**connection()) as worker:
    worker.add_orchestrator(postcards)
    worker.add_activity(sign)
    # Take only what is registered here: all else of the hub is for its components, and for other workers.
    worker.use_work_item_filters()
    worker.start()
    signal.sigwait(STOP)
