"""The keys and values of the original's configs/environment/kaggle.yaml, without its remarks."""

TEXT = """environment:
  name: "kaggle"
  type: "cloud"
  platform: "kaggle"

  kaggle:
    kernel_type: "notebook"
    accelerator: "gpu"
    internet: true

  paths:
    kaggle_input: "/kaggle/input"

    data_root: "/kaggle/working/data"
    checkpoint_root: "/kaggle/working/checkpoints"
    log_root: "/kaggle/working/logs"
    results_root: "/kaggle/working/results"
    temp_workspace: "/kaggle/tmp"

    kaggle_datasets:
      ntu120_skeletons: "/kaggle/input/ntu-rgbd-120-skeletons"
      teacher_logits: "/kaggle/input/ntu120-teacher-logits"

  cloud:
    enabled: false
    save_to_kaggle_datasets: true

    output_dataset:
      enabled: true
      name: "last-training-results"
      title: "LAST Training Results - NTU-120"

  hardware:
    device: "cuda"
    num_workers: 2
    pin_memory: true
    persistent_workers: false

  constraints:
    max_runtime_hours: 12
    max_disk_space_gb: 20
    ram_gb: 13
    gpu_memory_gb: 16
    cpu_cores: 2

  training_overrides:
    batch_size: 32
    num_workers: 2
    save_frequency: 10
    checkpoint_cleanup: true
    keep_best_k: 2

    log_frequency: 20
    eval_frequency: 500
"""


def at(line_of: str) -> int:
    """The line of the first key that begins with these characters."""
    return next(n for n, line in enumerate(TEXT.splitlines(), 1) if line.strip().startswith(line_of))
