"""The documented transactional loop of kafka-python: poll, decide, send, send the positions, commit."""

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata

from bench.peers.serving.answering import Answering
from bench.peers.serving.words import BACKOFF_MS, BATCH, TRANSACTION_TIMEOUT_MS, Words, read_words, stop_on_sigterm


def open_clients(words: Words) -> tuple[KafkaConsumer, KafkaProducer]:
    """Open a consumer that reads what is committed, and a transactional producer."""
    consumer = KafkaConsumer(
        words.requests,
        bootstrap_servers=words.brokers,
        group_id=words.group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = KafkaProducer(
        bootstrap_servers=words.brokers,
        transactional_id=f"{words.group}-loop",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        linger_ms=0,
        retry_backoff_ms=BACKOFF_MS,
    )
    return consumer, producer


def main() -> None:
    words, stop = read_words(), stop_on_sigterm()
    answering = Answering(words.model)
    consumer, producer = open_clients(words)
    producer.init_transactions()
    while not stop.is_set():
        records = consumer.poll(timeout_ms=500, max_records=BATCH)
        if not records:
            continue
        rows = [row for some in records.values() for row in some]
        answers = answering.answer([row.value for row in rows])
        producer.begin_transaction()
        for row, (key, value) in zip(rows, answers, strict=True):
            producer.send(words.decisions, value, key=key, partition=row.partition)
        positions = {place: OffsetAndMetadata(some[-1].offset + 1, "", -1) for place, some in records.items()}
        producer.send_offsets_to_transaction(positions, consumer.group_metadata())
        producer.commit_transaction()
    consumer.close(autocommit=False)
    producer.close(timeout=5)


if __name__ == "__main__":
    main()
