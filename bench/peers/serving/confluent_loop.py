"""The documented transactional loop of confluent-kafka: consume, decide, produce, send the positions, commit."""

from confluent_kafka import Consumer, KafkaException, Producer

from bench.peers.serving.answering import Answering
from bench.peers.serving.words import BACKOFF_MS, BATCH, TRANSACTION_TIMEOUT_MS, Words, read_words, stop_on_sigterm


def open_clients(words: Words) -> tuple[Consumer, Producer]:
    """Open a consumer that reads what is committed, and a transactional producer."""
    consumer = Consumer(
        {
            "bootstrap.servers": words.brokers,
            "group.id": words.group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": words.brokers,
            "transactional.id": f"{words.group}-loop",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 0,
            "retry.backoff.ms": BACKOFF_MS,
        }
    )
    return consumer, producer


def main() -> None:
    words, stop = read_words(), stop_on_sigterm()
    answering = Answering(words.model)
    consumer, producer = open_clients(words)
    producer.init_transactions()
    consumer.subscribe([words.requests])
    while not stop.is_set():
        first = consumer.poll(0.5)
        if first is None:
            continue
        messages = [first, *consumer.consume(BATCH - 1, timeout=0)]
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
        answers = answering.answer([message.value() for message in messages])
        producer.begin_transaction()
        for message, (key, value) in zip(messages, answers, strict=True):
            producer.produce(words.decisions, value, key, message.partition())
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
        producer.commit_transaction()
    consumer.close()


if __name__ == "__main__":
    main()
