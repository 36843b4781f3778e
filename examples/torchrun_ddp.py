"""Several GPUs, or several processes on a CPU: torchrun --nproc-per-node 2 examples/torchrun_ddp.py

Stop it any way you like and start it again, with the same number of processes or another one.
"""

import torch
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import outlast

torch.distributed.init_process_group()  # nccl with GPUs, gloo without
rank = torch.distributed.get_rank()
device = torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")

images, labels = load_digits(return_X_y=True)
dataset = TensorDataset(torch.tensor(images / 16).float(), torch.tensor(labels))

outlast.seed_everything(rank)  # DistributedDataParallel gives all ranks the weights of rank 0
network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(64, 10))
model = DistributedDataParallel(network.to(device))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = outlast.DataLoader(dataset, batch_size=64)  # of all ranks together; each gets its share

with outlast.open_run("torchrun_ddp") as run:  # rank 0 speaks and holds the folder; the checkpoints are of all
    run.track(model=model, optimizer=optimizer)
    for x, y in run.batches(loader, epochs=20):
        loss = torch.nn.functional.cross_entropy(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.log(loss=loss)

torch.distributed.destroy_process_group()
