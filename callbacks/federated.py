"""FederatedCallback: train any LightningModule by the local steps of a federated algorithm.

Give the callback to a `Trainer` of your own, or let `python train.py` do so:

    trainer = pl.Trainer(callbacks=[FederatedCallback(PerFedAvg(inner_lr=0.01))])
    trainer.fit(module, loader)

The module needs a `training_step` and automatic optimisation. It is not changed. An algorithm that
uses several batches a step (Per-FedAvg) cuts each batch of the loader into as many disjoint ones.
So give the loader two or three times the batch size. `training_step` sees the first of them.

The class is defined in `lightning_fl.algorithms.callback`, because sites build it too.
"""

from lightning_fl.algorithms.callback import FederatedCallback as FederatedCallback
