"""Spares vLLM its look at a model's class: it would start a process that imports all of vLLM again for it.

That process costs about 20 s on two cores, once per machine and vLLM installation (vLLM keeps the answer in its cache
directory). On CPU nothing speaks against importing the class here; on GPU vLLM keeps CUDA out of this process.
"""

from transformers import AutoConfig
from vllm import ModelRegistry


def import_model_classes(model_path: str) -> None:
    """Import and register the classes that the model's config names, where vLLM knows them."""
    for name in AutoConfig.from_pretrained(model_path).architectures or ():
        registered = ModelRegistry.models.get(name)
        if registered is not None:
            ModelRegistry.register_model(name, registered.load_model_cls())
