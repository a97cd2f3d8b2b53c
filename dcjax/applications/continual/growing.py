"""Classes in steps, and networks that go on learning with a growing last layer (IDC)."""

import jax
from ml_collections import ConfigDict

from dcjax.applications.continual import stages
from dcjax.applications.continual.memories import Memory, join
from dcjax.applications.continual.scenarios import InSteps, Outcome, Place, Wait, learner, tester
from dcjax.applications.continual.stages import Distillation, Previous
from dcjax.common.types import Params
from dcjax.config import evaluation_settings
from dcjax.nn import architectures
from dcjax.run import experiment


class Growing(InSteps):
  """Networks that are trained on the memory of all classes, stage after stage (IDC, C.3)."""

  def __init__(self, config: ConfigDict):
    """See `InSteps`."""
    super().__init__(config)
    for name in architectures.names(config.evaluation.architectures, config.network):
      learner(self.resolved, self.dataset, name)

  def check_memory(self, memory: Memory) -> None:
    """See `Scenario`."""
    memory.check_cross_entropy()

  def learn(
    self, place: Place, memories: list[Memory], previous: Params | None, wait: Wait
  ) -> Outcome:
    """See `Scenario`."""
    dataset = self.seen(place.seed, place.stage)
    network = learner(self.resolved, dataset, place.network)
    layout = experiment.strategy(self.resolved, dataset)
    images, labels, asked = join(memories)
    settings = evaluation_settings(self.resolved.evaluation).asked(asked)
    fields = self.config.continual
    distillation = Distillation(fields.distillation, fields.temperature)
    known = None if previous is None else self._previous(place, previous)

    def train(images, labels, key, params):
      before = None if known is None else known._replace(params=params)
      return stages.learn_memory(
        network, images, labels, key, before,
        classes=dataset.num_classes, settings=settings, layout=layout, distillation=distillation,
      )  # fmt: skip

    params = wait(jax.jit(train)(images, labels, place.key(), previous))
    accuracy = wait(tester(network, layout)(params, dataset))
    return Outcome([accuracy.item()], [], params)

  def _previous(self, place: Place, params: Params) -> Previous:
    """The network of the stage before."""
    smaller = self.seen(place.seed, place.stage - 1)
    network = learner(self.resolved, smaller, place.network)
    return Previous(network, params, smaller.num_classes)
