import time
import random
import json
import asyncio
from tokengate_executor import OperationsCoordinator, task_token_guard


@task_token_guard(
    operation_type='json_file_moderate',  
    # "Operation type" is for internal tracking and can be anything.
    tags={
        'weight': 'medium',
        # "weight" is denoted by "light", "medium", or "heavy" and guides   
        # worker assignment based on the expected performance of the task.
        'storage_speed': 'MODERATE'
        # "storage_speed" is for establishing an efficient amount of concurrent writers.
    }
)   # Indicators for storage speed are "SLOW" (10 concurrent writes), "MODERATE" (25 concurrent), 
    # "FAST" (50 concurrent), and "INSANE" (70 concurrent). 
def create_json_file(index: int) -> dict:
    """Simulates a task that creates a JSON file with moderate storage speed."""
    filename = f"output_{index}.json"
    data = {
        "index": index,
        "random_value": random.randint(0, 100_000),
        "timestamp": time.time(),
        "message": f"This is a simulated JSON file for task {index}.",
    }

    time.sleep(0.5)

    with open(filename, "w", encoding="utf-8") as f:
        json.dump(data, f)

    return data

# Example of a supported main function that starts the event bus for tasks to link the coordinator. 
# The coordinator manages the execution of these tasks based on concurrency management policies.
# DO NOT USE decorated "async def my_functions(...):", the decorator provides the async linkage  
# needed for coordinator-managed execution.
async def main():
    coordinator = OperationsCoordinator()
    coordinator.start()
    try:
        # Simulate submitting multiple tasks
        for i in range(10):
            create_json_file(i)
    finally:
        coordinator.stop()


if __name__ == "__main__":
    asyncio.run(main())
