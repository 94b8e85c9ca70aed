import os
import time
import math
from tokengate_executor import OperationsCoordinator, task_token_guard

@task_token_guard(operation_type='list_process', tags={'weight': 'medium'})
def moderate_operation(size):
    """Medium: List comprehension and filtering."""
    data = [i * 2 for i in range(size)]
    filtered = [x for x in data if x % 3 == 0]
    return sum(filtered)

@task_token_guard(operation_type='string_ops', tags={'weight': 'light'})
def string_operation(length):
    """String manipulation operations."""
    s = "test" * length
    return len(s.upper().replace("T", "X").split("X"))

@task_token_guard(
    operation_type='write_blob_moderate',
    tags={'weight': 'medium', 'storage_speed': 'fast'}
)
def write_blob_moderate(path, size_kb):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    blob = b"x" * (size_kb * 1024)
    with open(path, "wb") as f:
        f.write(blob)
    return {
        "path": path,
        "bytes": len(blob),
    }
