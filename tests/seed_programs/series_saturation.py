import time
import math
from tokengate_executor import OperationsCoordinator, task_token_guard

@task_token_guard(operation_type='series_long', tags={'weight': 'heavy'})
def series_long(duration: float = 2.0):
    """
    Occupies a worker for ~duration seconds.
    Heavy weight — intended to occupy core 1 workers and create visible backpressure
    when submitted in batches. Use this to demonstrate that the mailbox bounds
    submissions rather than allowing runaway queue growth.
    """
    end = time.monotonic() + duration
    acc = 2.0
    step = 0
    while time.monotonic() < end:
        acc = math.sqrt(abs(math.cos(acc))) + math.log(step + 2)
        step += 1
    return round(acc, 6)

def run_series_saturation_demo():
    """
    Submits a burst of series_long tasks that intentionally exceed the
    typical worker count. The goal is to make backpressure visible:
    early tokens resolve quickly, later tokens wait in the mailbox.

    Observe: submission is fast (near-instant), but resolution times will show a clear spread.
    The first batch of tasks occupies the workers and subsequent tasks queue up in the mailbox.
    """
    coordinator = OperationsCoordinator()
    coordinator.start()
    BURST_SIZE = 20
    DURATION_PER_TASK = 1.0  # seconds each worker is held


    print(f"\n{'=' * 70}")
    print("SERIES SATURATION: Intentional pool pressure")
    print(f"{'=' * 70}")
    print(f"Submitting {BURST_SIZE} x {DURATION_PER_TASK}s tasks.")
    print("Workers will be occupied. Later tokens will wait in mailbox.\n")

    tokens = []
    submit_times = []
    
    try:
        for i in range(BURST_SIZE):
            t = time.monotonic()
            token = series_long(DURATION_PER_TASK)
            tokens.append(token)
            submit_times.append(t)
    
        results = []
        for i, token in enumerate(tokens):
            result = token.get(timeout=60)
            elapsed = time.monotonic() - submit_times[i]
            results.append((i, elapsed, result))
    
        print(f"\n  Earliest resolution: {min(r[1] for r in results):.3f}s")
        print(f"  Latest  resolution: {max(r[1] for r in results):.3f}s")
        print(f"  Spread (backpressure window): "
              f"{max(r[1] for r in results) - min(r[1] for r in results):.3f}s")
        print("\nSERIES SATURATION PASSED — backpressure observed, no failures.")
        return results
    
    finally:
        coordinator.stop()

if __name__=="__main__":
    run_series_saturation_demo()
