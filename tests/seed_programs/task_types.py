from enum import Enum

class TaskWeight(Enum):
    """Task weight classification for CPU routing."""
    HEAVY = "heavy"  # High difficulty work gets Core 1
    MEDIUM = "medium"  # Balanced work gets Core 2+
    LIGHT = "light"  # Simple work gets Core 3+

STORAGE_SPEEDS = {
    'SLOW': 10,  # HDD, network drives, slow storage
    'MODERATE': 25,  # SATA SSD, decent performance
    'FAST': 50,  # NVMe like MP700, high performance
    'INSANE': 70  # Optane, RAM disk, extreme performance
}

# CPU related string tags are not considered "systems critical" whereas storage_speed based strings 
# are emphasized as critical to prevent tag assignment errors. Storage support is a crucial factor in   
# determining the number of concurrent writers to avoid throttling and ensure tasks execute.
